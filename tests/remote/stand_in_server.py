"""A stand-in for vLLM's server: `/v1/completions` over real HTTP on loopback, on our own engines.

The same tokens come out as in this process, so that whatever holds for an in-process engine can be
asked of a client of this server. `abilities` make it a lesser server; `faults` break answers.

    server = StandInServer({"aligned": engine})
    server.faults.append(Fault(status=429, headers={"Retry-After": "0.1"}, times=3))
    ... OpenAIEngineSpec(base_url=server.base_url, model="aligned") ...
    server.kill(); server.restart(); server.close()
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from typing import Any, Self

from langgraph_switch.config import Sampling
from langgraph_switch.engines.base import Engine, GenerateRequest, LabelRequest, NewToken
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.errors import ContextLengthError

ALL_ABILITIES = frozenset(
    {
        "token_prompts",  # Otherwise a list of ids is refused.
        "return_token_ids",
        "logprob_token_ids",
        "allowed_token_ids",
        "extras",  # Otherwise a field that OpenAI's API has not is refused (400).
        "tokenize",
        "cached_tokens",
    }
)
_EXTRAS = {
    "return_token_ids",
    "logprob_token_ids",
    "allowed_token_ids",
    "return_tokens_as_token_ids",
    "stop_token_ids",
    "ignore_eos",
    "add_special_tokens",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "top_k",
    "min_p",
    "repetition_penalty",
}
_MAX_ROWS = 64


@dataclass
class Fault:
    """What goes wrong with the next answers to a path."""

    path: str = "/completions"
    """A part of the path."""
    status: int | None = None
    """Answer with this instead."""
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    """The answer's text, instead of an error of OpenAI's form."""
    cut_after: int | None = None
    """Bytes of the body after which the connection is cut."""
    hang_s: float = 0.0
    """Seconds of silence before anything else."""
    times: int = 1
    when: Callable[[], bool] = lambda: True
    """Whether it strikes this time, e.g. with a probability."""


class StandInServer:
    """Engines by name, behind one address. Also a context manager.

    Attributes:
        faults: Break the next matching answers, first one first.
        requests: The bodies of all completion requests, in order.
        authorizations: The `Authorization` header of each request.
        max_in_flight: Most completion requests that were ever answered at the same time.
        num_connections: Connections that were ever opened.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        *,
        abilities: frozenset[str] = ALL_ABILITIES,
        api_key: str | None = None,
        max_model_len: int | None = None,
        token_delay_s: float = 0.0,
        port: int = 0,
    ) -> None:
        """Serve engines until `close`.

        Args:
            engines: By the name that requests ask for; the first is the base model.
            abilities: What of vLLM's it can.
            api_key: Refuse requests without it.
            max_model_len: Tokens of context, where fewer than the engines'.
            token_delay_s: Seconds that every streamed token takes longer.
            port: Where to listen; 0 takes a free one.
        """
        self.engines = dict(engines)
        self.abilities = abilities
        self.api_key = api_key
        self.max_model_len = max_model_len
        self.token_delay_s = token_delay_s
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.num_connections = self.max_in_flight = self.in_flight = 0
        self.lock = threading.Lock()
        self.rows: dict[str, OrderedDict[str, tuple[int, ...]]] = {
            n: OrderedDict() for n in engines
        }
        self._connections: set[socket.socket] = set()
        self._num_rows = 0
        self._listen(port)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.url}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def kill(self) -> None:
        """Stop listening and cut every connection, as a killed process does."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with self.lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restart(self) -> None:
        """Listen again, at the same address, with an empty prefix cache."""
        for name, engine in self.engines.items():
            engine.release(list(self.rows[name]))
            self.rows[name].clear()
        self._listen(self.port)

    def close(self) -> None:
        """Stop for good."""
        self.kill()

    def fault(self, path: str) -> Fault | None:
        """Return what goes wrong with an answer to this path, if anything, and count it."""
        with self.lock:
            for one in self.faults:
                if one.times > 0 and one.path in path and one.when():
                    one.times -= 1
                    return one
        return None

    def opened(self, connection: socket.socket) -> None:
        with self.lock:
            self.num_connections += 1
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self.lock:
            self._connections.discard(connection)

    def row(self, name: str, prefix: tuple[int, ...]) -> tuple[str, str | None]:
        """Return a new row, and the one that shares the longest beginning with its prefix."""
        with self.lock:
            rows = self.rows[name]
            best = max(rows, key=lambda row: _shared(rows[row], prefix), default=None)
            self._num_rows += 1
            new = f"row {self._num_rows}"
            rows[new] = prefix
            old = [rows.popitem(last=False)[0] for _ in range(len(rows) - _MAX_ROWS)]
        self.engines[name].release(old)
        return new, best

    def _listen(self, port: int) -> None:
        owner = self

        class Handler(_Handler):
            server_state = owner

        self._server = _Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Say nothing of connections that were cut on purpose."""


class _Refused(Exception):  # noqa: N818
    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class _Cut(Exception):  # noqa: N818
    """The connection was cut."""


class _Handler(BaseHTTPRequestHandler):
    server_state: StandInServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server_state.opened(self.connection)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.server_state.closed(self.connection)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, work: Callable[[], None]) -> None:
        state = self.server_state
        length = int(self.headers.get("Content-Length") or 0)
        self._body = json.loads(self.rfile.read(length)) if length else {}
        state.authorizations.append(self.headers.get("Authorization"))
        self._room: int | None = None
        try:
            fault = state.fault(self.path)
            if fault is not None:
                time.sleep(fault.hang_s)
                self._room = fault.cut_after
                if fault.status is not None:
                    self._refuse(fault.status, fault.body or "injected", fault.headers, fault.body)
                    return
            if state.api_key and self.headers.get("Authorization") != f"Bearer {state.api_key}":
                # As some servers do, it repeats what it was given.
                given = self.headers.get("Authorization")
                raise _Refused(401, f"Incorrect API key provided: {given}")  # noqa: TRY301
            work()
        except _Refused as err:
            self._refuse(err.status, str(err), err.headers)
        except ContextLengthError as err:
            self._refuse(400, f"This model's maximum context length is exceeded: {err.message}")
        except (_Cut, OSError):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _get(self) -> None:
        state = self.server_state
        if self.path == "/health":
            self._send({})
        elif self.path == "/v1/models":
            models = [
                {
                    "id": name,
                    "object": "model",
                    "owned_by": "stand-in",
                    "created": 0,
                    "max_model_len": state.max_model_len or engine.max_context_tokens,
                }
                for name, engine in state.engines.items()
            ]
            self._send({"object": "list", "data": models})
        else:
            raise _Refused(404, f"Not Found: {self.path}")

    def _post(self) -> None:
        state = self.server_state
        if self.path == "/tokenize" and "tokenize" in state.abilities:
            ids = self._encode(self._engine(), self._body["prompt"])
            self._send({"tokens": ids, "count": len(ids)})
            return
        if self.path != "/v1/completions":
            raise _Refused(404, f"Not Found: {self.path}")
        with state.lock:
            state.requests.append(self._body)
            state.in_flight += 1
            state.max_in_flight = max(state.max_in_flight, state.in_flight)
        self._is_in_flight = True
        try:
            self._complete()
        finally:
            self._answered()

    def _answered(self) -> None:
        """Count the request as answered: before its last bytes, since the next one follows them."""
        if self._is_in_flight:
            self._is_in_flight = False
            with self.server_state.lock:
                self.server_state.in_flight -= 1

    def _complete(self) -> None:
        state, body = self.server_state, self._body
        engine = self._engine()
        if "extras" not in state.abilities and (extra := sorted(_EXTRAS & body.keys())):
            raise _Refused(400, f"Unrecognized request argument supplied: {extra[0]}")
        prompt = body["prompt"]
        if not isinstance(prompt, str) and "token_prompts" not in state.abilities:
            raise _Refused(400, "prompt must be a string")
        prefix = tuple(self._encode(engine, prompt) if isinstance(prompt, str) else prompt)
        limit = state.max_model_len or engine.max_context_tokens
        if len(prefix) + body["max_tokens"] > limit:
            raise _Refused(400, f"This model's maximum context length is {limit} tokens.")
        row, parent = state.row(body["model"], prefix)
        request = _request(body, prefix, row, parent, engine)
        allowed = body.get("allowed_token_ids") if "allowed_token_ids" in state.abilities else None
        if allowed:
            everything = set(range(engine.vocab_size))
            masked = everything - set(allowed) | set(request.masked_token_ids)
            request = replace(request, masked_token_ids=tuple(sorted(masked)))
        if body.get("stream"):
            self._stream(engine, request)
        else:
            self._whole(engine, request)

    def _whole(self, engine: Engine, request: GenerateRequest) -> None:
        [found] = engine.generate([request])
        ids, finish, reason = _ending(list(found.token_ids), found.finish_reason, request)
        choice = self._choice(found.text + found.pending_text, ids, finish, reason)
        if "logprobs" in self._body:
            choice["logprobs"] = self._logprobs(engine, request, ids)
        if "return_token_ids" in self.server_state.abilities and self._body.get("return_token_ids"):
            choice["prompt_token_ids"] = list(request.prefix)
        usage = self._usage(len(request.prefix), len(ids), found.cached_tokens)
        self._answered()
        self._send(self._envelope([choice]) | {"usage": usage})

    def _stream(self, engine: Engine, request: GenerateRequest) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent: list[int] = []

        def on_token(_: int, token: NewToken) -> None:
            time.sleep(self.server_state.token_delay_s)
            sent.append(token.token_id)
            self._event(self._envelope([self._choice(token.text, [token.token_id], None, None)]))

        [found] = engine.generate([request], on_token)
        ids, finish, reason = _ending(sent, found.finish_reason, request)
        last = self._choice(found.pending_text, ids[len(sent) :], finish, reason)
        self._event(self._envelope([last]))
        if (self._body.get("stream_options") or {}).get("include_usage"):
            usage = self._usage(len(request.prefix), len(ids), found.cached_tokens)
            self._event(self._envelope([]) | {"usage": usage})
        self._answered()
        self._write_chunk(b"data: [DONE]\n\n")
        self._write(b"0\r\n\r\n")

    def _choice(
        self, text: str, ids: Sequence[int], finish: str | None, reason: int | str | None
    ) -> dict[str, Any]:
        choice = {
            "index": 0,
            "text": text,
            "logprobs": None,
            "finish_reason": finish,
            "stop_reason": reason,
        }
        if "return_token_ids" in self.server_state.abilities and self._body.get("return_token_ids"):
            choice["token_ids"] = list(ids)
        return choice

    def _logprobs(
        self, engine: Engine, request: GenerateRequest, ids: Sequence[int]
    ) -> dict[str, Any]:
        """Return raw log-probabilities of the first token: of those named, or the highest."""
        wanted = self._body.get("logprob_token_ids")
        if "logprob_token_ids" not in self.server_state.abilities:
            wanted = None
        every = tuple((i,) for i in range(engine.vocab_size))
        labels = LabelRequest(row=f"{request.row}#labels", prefix=request.prefix, labels=every)
        [scores] = engine.label_logprobs([labels])
        engine.release([labels.row])
        highest = sorted(range(len(scores)), key=lambda i: -scores[i])[: self._body["logprobs"]]
        listed = wanted if wanted is not None else highest
        as_ids = self._body.get("return_tokens_as_token_ids")

        def text(token_id: int) -> str:
            return f"token_id:{token_id}" if as_ids else engine.tokenizer.decode([token_id])

        return {
            "tokens": [text(i) for i in ids[:1]],
            "token_logprobs": [scores[i] for i in ids[:1]],
            "top_logprobs": [{text(i): scores[i] for i in listed}],
            "text_offset": [0],
        }

    def _engine(self) -> Engine:
        name = self._body.get("model")
        if name not in self.server_state.engines:
            raise _Refused(404, f"The model `{name}` does not exist.")
        return self.server_state.engines[str(name)]

    def _encode(self, engine: Engine, text: str) -> list[int]:
        tokenizer = engine.tokenizer
        if self._body.get("add_special_tokens", True) or not isinstance(tokenizer, HFTokenizer):
            return list(tokenizer.encode_document(text))
        return list(tokenizer.encode_chat(text))

    def _envelope(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        model = self._body["model"]
        return {
            "id": "cmpl",
            "object": "text_completion",
            "created": 0,
            "model": model,
            "choices": choices,
        }

    def _usage(self, num_prompt: int, num_new: int, num_cached: int) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_new,
            "total_tokens": num_prompt + num_new,
        }
        if "cached_tokens" in self.server_state.abilities:
            usage["prompt_tokens_details"] = {"cached_tokens": num_cached}
        return usage

    def _refuse(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> None:
        error = {"message": message, "type": "stand_in", "param": None, "code": status}
        self._send({"error": error}, status=status, headers=headers, raw=body)

    def _send(
        self,
        answer: Any,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        raw: str | None = None,
    ) -> None:
        data = (json.dumps(answer) if raw is None else raw).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if raw is None else "text/html")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self._write(data)

    def _event(self, answer: Any) -> None:
        self._write_chunk(f"data: {json.dumps(answer)}\n\n".encode())

    def _write_chunk(self, data: bytes) -> None:
        self._write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _write(self, data: bytes) -> None:
        if self._room is not None:
            data, self._room = data[: self._room], self._room - len(data)
        self.wfile.write(data)
        self.wfile.flush()
        if self._room is not None and self._room <= 0:
            raise _Cut


def _request(
    body: dict[str, Any], prefix: tuple[int, ...], row: str, parent: str | None, engine: Engine
) -> GenerateRequest:
    own = () if body.get("ignore_eos") else engine.eos_token_ids
    top_k = body.get("top_k") or 0
    bias = body.get("logit_bias") or {}
    stop = body.get("stop") or ()
    temperature = body.get("temperature")
    return GenerateRequest(
        row=row,
        fork_of=parent,
        prefix=prefix,
        response_start=len(prefix),
        max_new_tokens=body["max_tokens"],
        sampling=Sampling(
            temperature=1.0 if temperature is None else temperature,
            top_p=body.get("top_p") or 1.0,
            top_k=top_k if top_k > 0 else None,
        ),
        seed=body.get("seed") or 0,
        eos_token_ids=tuple(dict.fromkeys((*(body.get("stop_token_ids") or ()), *own))),
        masked_token_ids=tuple(int(i) for i, value in bias.items() if value <= -100),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def _ending(
    ids: list[int], finish: str, request: GenerateRequest
) -> tuple[list[int], str, int | None]:
    """Return the tokens and why they end, as vLLM says it: its EOS stays among the tokens."""
    if finish == "eos":
        eos = request.eos_token_ids[0]
        return [*ids, eos], "stop", eos
    return ids, "length" if finish == "length" else "stop", None


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = zip(left, right, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
