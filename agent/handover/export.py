"""A finished run becomes a folder that serves: adapters in PEFT format, a card, and a JSON of what is no weights."""

import json
import shutil
import tempfile
from pathlib import Path

from agent.handover.card import card, hub_id
from agent.handover.options import ExportOptions
from agent.handover.settings import CAO_FILE, handed_of, inside
from agent.record.answering import read_answering
from agent.record.reading import read_record
from agent.record.runs import find_run
from agent.record.schema import RunRecord
from cao.errors import InputError
from cao.files import room_for, usual_modes, write_atomic, write_sums
from cao.model.soft_prompt.either import is_soft_prompt, load_carried
from cao.types import CONFIG_FILE, WEIGHTS_FILE

MEMBERS, ROUTES = "members", "routes.safetensors"


def export(options: ExportOptions) -> dict[str, object]:
    """Write the folder and return what is in it.

    Args:
        options: the run, and where to.

    Raises:
        InputError: there is no such run, it adopted nothing, a file of it was changed, or the folder is not empty.
    """
    place = find_run(Path(options.out), options.run)
    run = read_record(place)
    members, routes = _members(run, options.what)
    only = members[0] if len(members) == 1 else None
    for wish, wanted in (("--merge merges", options.merge), ("--gguf writes", options.gguf)):
        if wanted and only is None:
            raise InputError(f"run {run.run_id}: {wish} one adapter, and this run has {_many(members)}")
        if wanted and only and is_soft_prompt(inside(place, only, "run.json")):
            raise InputError(f"run {run.run_id}: {wish} LoRA, and this run adopted a soft prompt; leave the option out")
    _refuse_taken(options.to)
    _make_room(options.to)
    with room_for(options.to), tempfile.TemporaryDirectory(dir=options.to.parent, prefix=".export.") as made:
        folder = Path(made) / "folder"
        folder.mkdir()
        names = _copy(place, folder, members, run)
        if routes:
            _copy_file(place, routes, folder / ROUTES)
        adopted = run.adopted if options.what == "adopted" else None
        there = tuple(name for name in names if name is not None)
        handed = handed_of(run, adopted, names, ROUTES if routes else None, read_answering(place))
        write_atomic(folder / CAO_FILE, handed.text())
        soft = any(is_soft_prompt(folder / name) for name in there)
        write_atomic(folder / "README.md", card(run, options.what, there, soft=soft))
        if options.merge or options.gguf:
            from agent.handover import base_model, llama_cpp, merge  # noqa: PLC0415  (torch; mistakes come first)

            lm = base_model.base_of(run, "--merge" if options.merge else "--gguf", offline=options.offline)
            if options.merge:
                merge.merge(lm, folder, handed, offline=options.offline)
            if options.gguf:
                llama_cpp.write_gguf(lm, folder)
        for place_of in {path.parent for path in folder.rglob(CAO_FILE)}:
            write_sums(place_of, [path for name in (CAO_FILE, ROUTES) if (path := place_of / name).is_file()])
        usual_modes(folder)
        if options.to.exists():
            options.to.rmdir()
        folder.rename(options.to)
    files = sorted(str(path.relative_to(options.to)) for path in options.to.rglob("*") if path.is_file())
    return {"run_id": run.run_id, "folder": str(options.to), "what": options.what, "files": files}


def _make_room(to: Path) -> None:
    """Make the folder that an export goes into, and find out whether something can be written there."""
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=".export."):
            pass
    except OSError as error:
        raise InputError(f"--to {to}: cannot be made ({error.strerror}); choose another folder") from None


def _members(run: RunRecord, what: str) -> tuple[tuple[str | None, ...], str | None]:
    """Return the adapters' folders of what is exported, relative to the run's, and the file of their routes."""
    if what != "adopted":
        made = getattr(run.adapters, what)
        if made is None:
            raise InputError(f"run {run.run_id} made no {what} adapter: {run.adapters.reason}")
        return (made.path,), None
    if run.adopted is None:
        made = next((name for name in ("aligned", "generated") if getattr(run.adapters, name)), None)
        advice = f"; --what {made} exports the adapter that it made, which was not accepted" if made else ""
        raise InputError(f"run {run.run_id} adopted nothing, so the deployed model is what to serve{advice}")
    if run.adopted.together:
        return run.adopted.together.adapters, run.adopted.together.routes
    return (run.adopted.adapter.path if run.adopted.adapter else None,), None


def _many(members: tuple[str | None, ...]) -> str:
    return f"{len(members)} that answer together" if len(members) > 1 else "none"


def _refuse_taken(folder: Path) -> None:
    try:
        taken = folder.exists() and any(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: is no folder that can be written ({error.strerror})") from None
    if taken:
        raise InputError(f"{folder}: is not empty; give a new or an empty folder")


def _copy(place: Path, folder: Path, members: tuple[str | None, ...], run: RunRecord) -> tuple[str | None, ...]:
    """Copy the adapters, each held against its hash and its base model; return where they lie.

    A copy names its base model by where anybody gets it, and not by a folder of this machine.
    """
    names: list[str | None] = []
    for number, member in enumerate(members):
        name = "." if len(members) == 1 else f"{MEMBERS}/{number}"
        names.append(name if member else None)
        if member:
            source = inside(place, member, "run.json")
            load_carried(source, run.model_sha256)
            (folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / WEIGHTS_FILE, folder / name / WEIGHTS_FILE)
            config = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
            config["base_model_name_or_path"] = hub_id(run) or config["base_model_name_or_path"]
            write_atomic(folder / name / CONFIG_FILE, json.dumps(config, indent=2, sort_keys=True) + "\n")
    return tuple(names)


def _copy_file(place: Path, name: str, to: Path) -> None:
    source = inside(place, name, "run.json")
    if not source.is_file():
        raise InputError(f"{source}: missing")
    shutil.copyfile(source, to)
