"""LangChain's own suites. Where a property is turned off, the reason stands beside it."""

from __future__ import annotations

from typing import Any

import pytest
from capable_model import CONFIG, capable_chat
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langgraph_switch.chat import ChatSwitch
from langgraph_switch.families import embedded_config

pytestmark = pytest.mark.filterwarnings("ignore:.*without meaning for checkpoints")


class TestUnit(ChatModelUnitTests):
    """What is tested without models: nothing is loaded by making a `ChatSwitch`."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatSwitch

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"config": CONFIG}


class TestCapable(ChatModelIntegrationTests):
    """All that needs a capable model, with a scripted one.

    Images, audio and files stay off: the candidates read text. So does the time of streaming,
    which replays recorded requests to a server.
    """

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatSwitch

    @property
    def chat_model_params(self) -> dict[str, Any]:
        chat = capable_chat()
        return {"config": chat.config, "engines": chat.engines}

    @property
    def model_override_value(self) -> str:
        return "aligned"

    @property
    def supports_json_mode(self) -> bool:
        return False  # A scripted engine obeys no grammar; see test_chat_structured.py.


class TestEmbedded(ChatModelIntegrationTests):
    """The embedded family, with real weights, in everything that needs no understanding."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatSwitch

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"config": embedded_config()}

    @property
    def model_override_value(self) -> str:
        return "aligned"

    @property
    def has_tool_calling(self) -> bool:
        return False  # Two million parameters know legs and wings; they call nothing unforced.

    @property
    def has_structured_output(self) -> bool:
        return False  # The suite asks for jokes, whose texts have no end in so small a model.
