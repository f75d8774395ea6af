"""The fields of a recipe as flags: made from the recipe's own row, so that none is written twice."""

import inspect
import textwrap
from ast import AnnAssign, ClassDef, Constant, Expr, Name, parse
from dataclasses import field, fields, make_dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_type_hints

from cyclopts import Parameter

from resnetkit.catalog.recipe import Recipe

_NAMES = {"batch_size": ["--batch-size", "-b"]}
# A word that no recipe holds, as it is another number on each machine.
_WORDS: dict[str, tuple[Any, str]] = {
    "batch_size": (int | Literal["auto"], "; auto: as many as fit into memory, or the recipe's own in pieces that fit")
}


def field_docs() -> dict[str, str]:
    """What each field of a recipe says of itself: the string that follows it in the source."""
    body = cast(ClassDef, parse(textwrap.dedent(inspect.getsource(Recipe))).body[0]).body
    return {
        before.target.id: after.value.value
        for before, after in pairwise(body)
        if isinstance(before, AnnAssign) and isinstance(before.target, Name)
        and isinstance(after, Expr) and isinstance(after.value, Constant) and isinstance(after.value.value, str)
    }  # fmt: skip


def _flag(name: str, kind: Any, doc: str) -> tuple[str, Any, Any]:
    kind, more = _WORDS.get(name, (kind, ""))
    help_text = f"{doc[0].upper()}{doc[1:]}{more}.".replace("None: ", "default: ")
    negative = f"--no-{name.replace('_', '-')}" if bool in (kind, *getattr(kind, "__args__", ())) else ""
    parameter = Parameter(
        name=_NAMES.get(name), help=help_text, negative=negative, show_default=False,
        consume_multiple=str(kind).startswith("tuple"),
    )  # fmt: skip
    return name, Annotated[kind | None, parameter], field(default=None)


if TYPE_CHECKING:

    class RecipeFlags:
        """One field for each of `Recipe`, None where the flag is not given."""

else:
    _docs, _kinds = field_docs(), get_type_hints(Recipe)
    RecipeFlags = Parameter(name="*", group="Recipe")(
        make_dataclass(
            "RecipeFlags",
            [_flag(row.name, _kinds[row.name], _docs[row.name]) for row in fields(Recipe) if row.name != "model"],
            frozen=True,
            kw_only=True,
            namespace={"__module__": __name__},
        )
    )
