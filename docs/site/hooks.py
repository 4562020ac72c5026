"""What the site has beside docs/: pages from elsewhere in the repository, and the help of all commands.

Links are written to work where a page lies in the repository; here they are turned into those of the site.
"""

import argparse
import posixpath
import re
from collections.abc import Iterator
from functools import partial, reduce
from importlib import import_module
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from engine.config.recipe import HEADINGS, Recipe
from engine.config.settings import Described, all_settings
from engine.lockstep_command import COMMANDS

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "bench/results/*")

_CODE_OR_LINK = re.compile(
    r"^```.*?^```$"
    r"|(?P<image>!)?\[(?P<text>(?:`[^`\n]*`|[^\]`])+)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)"
    r"|`[^`\n]+`",
    re.M | re.S,
)
_HELP_WIDTH = 100


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add all measurements to the navigation, the newest first."""
    results = sorted((ROOT / "bench/results").glob("*.md"), reverse=True)
    config.nav.append({"Measurements": [{path.stem: f"bench/results/{path.name}"} for path in results]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for pattern in ELSEWHERE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, lines in (("commands.md", _commands()), ("recipe.md", _recipe())):
        files.append(File.generated(config, name, content="\n".join(lines)))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Turn links between files into links between pages; one to a source becomes its text."""
    source = page.file.src_uri
    outside = page.file.generated_by is not None
    home = posixpath.dirname(source if outside else f"docs/{source}")
    return _CODE_OR_LINK.sub(partial(_changed, home=home, source=source, files=files), markdown)


def _changed(found: re.Match[str], *, home: str, source: str, files: Files) -> str:
    if found["image"] or not found["target"]:
        return found[0]
    target = posixpath.normpath(posixpath.join(home, found["target"]))
    name = target.removeprefix("docs/")
    found_file = files.get_file_from_path(name)
    if found_file is not None and found_file.inclusion.is_included():
        path = posixpath.relpath(name, posixpath.dirname(source) or ".")
        return f"[{found['text']}]({path}{found['anchor'] or ''})"
    return found["text"] if (ROOT / target).exists() else found[0]


def _commands() -> Iterator[str]:
    yield "# Commands\n\nWhat each says for `--help`; `python -m engine.COMMAND` is `lockstep COMMAND`."
    for name, (module, _) in COMMANDS.items():
        parser = import_module(module).make_parser()
        yield f"\n## lockstep {name}\n"
        yield from _block(parser)
        for action in parser._actions:  # argparse has no other list
            if isinstance(action, argparse._SubParsersAction):
                for word, inside in action.choices.items():
                    yield f"\n### lockstep {name} {word}\n"
                    yield from _block(inside)


def _recipe() -> Iterator[str]:
    yield "# Fields of a recipe\n\nIn TOML `schedule.rate` is `rate` in the table `[schedule]`."
    for group in HEADINGS:
        yield f"\n## {group.capitalize()}\n\n| field | option | default | |\n|---|---|---|---|"
        for each in all_settings(Recipe):
            if each.setting.help and each.setting.group == group:
                default = reduce(getattr, each.path.split("."), Recipe())
                yield f"| `{each.path}` | `--{_option(each)}` | `{default!r}` | {_meaning(each)} |"


def _option(each: Described) -> str:
    name = each.setting.option or each.path.rpartition(".")[2].replace("_", "-")
    return name.removesuffix("s") if each.setting.arguments_of else name


def _meaning(each: Described) -> str:
    text = each.setting.help.replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")
    choices = ", ".join(f"`{choice}`" for choice in each.setting.choices)
    return f"{text} ({choices})" if choices else text


def _block(parser: argparse.ArgumentParser) -> tuple[str, ...]:
    parser.formatter_class = partial(argparse.RawDescriptionHelpFormatter, width=_HELP_WIDTH)
    text = parser.format_help().replace("python -m engine.", "lockstep ")
    return ("```text", text.rstrip(), "```")
