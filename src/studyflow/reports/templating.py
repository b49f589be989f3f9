"""The pages' templates: everything that is put into one is escaped, and nothing may be missing."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from studyflow.errors import MissingExtra

if TYPE_CHECKING:
    import jinja2


@cache
def text_of(package: str, name: str) -> str:
    """Return a file of the folder `templates` of a package."""
    return (resources.files(package) / "templates" / name).read_text(encoding="utf-8")


def environment_of(package: str, what: str) -> jinja2.Environment:
    """Return what renders the templates of a package, by their names.

    Args:
        package: Its folder `templates` holds them.
        what: What is rendered, at the beginning of a sentence.

    Raises:
        MissingExtra: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra(what, "reports") from error
    folder = resources.files(package) / "templates"
    names = [path.name for path in folder.iterdir() if path.name.endswith(".j2")]
    return jinja2.Environment(
        loader=jinja2.DictLoader({name: text_of(package, name) for name in names}),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
