"""`langgraph-switch app`: the playground.

Knows nothing of what is on the page.
"""

from __future__ import annotations

from collections.abc import Collection

from langgraph_switch.cli.screen import Screen
from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import MissingExtraError
from langgraph_switch.families import embedded_config
from langgraph_switch.switch import Switch


def serve(
    config: SwitchConfig,
    screen: Screen,
    *,
    host: str,
    port: int | None,
    trusted: Collection[str] = (),
) -> None:
    """Serve the playground until Ctrl-C.

    Raises:
        MissingExtraError: Gradio is not installed.
        ModelLoadError: A model cannot be loaded.
    """
    try:
        from langgraph_switch.playground.page import (  # noqa: PLC0415 - an extra
            EXAMPLES,
            build_page,
            launch_page,
        )
    except ImportError as err:
        raise MissingExtraError("The playground", extra="app") from err
    from langgraph_switch.playground.session import Session  # noqa: PLC0415 - with the page

    screen.note("Loading the models ...")
    session = Session(Switch(config, trust_remote_code=trusted))
    title = " + ".join(config.names)
    is_embedded = config.candidates == embedded_config().with_absolute_models().candidates
    page = build_page(session, title=title, examples=EXAMPLES if is_embedded else ())
    launch_page(page, host=host, port=port)
