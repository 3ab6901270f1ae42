"""What the doctor says of the trained parts that ship: each is loaded and held against its recorded hash."""

from agent.health.checks import Check
from cao.errors import CaoError
from policies import trained
from policies.selection.learnt import training_command
from tools import pretrained
from tools.align_lora import find_aligner
from tools.generate_lora import find_generator


def check_pretrained(folder: str | None = None) -> list[Check]:
    """Load every trained generator and aligner of a folder of trained parts, the shipped one when None."""
    index = pretrained.index_of(folder)
    try:
        listed = pretrained.read_index(index)
    except CaoError as error:
        return [Check("trained generators", "missing", str(error), f"restore {index.parent} as it was shipped")]
    if listed is None:
        detail = f"{index} is absent: runs start from the deployed model"
        command = "python -m agent.consolidate --model smollm2-135m --install"
        return [Check("trained generators", "optional", detail, command)]
    rows = []
    for base_sha256, shelf in listed.models.items():
        name = f"generator {shelf.name}"
        files = [part.path for variant in shelf.variants for part in (variant.generator, variant.aligner) if part]
        try:
            for variant in shelf.variants:
                generator = find_generator(base_sha256, None, variant.name, index)
                if generator and variant.aligner:
                    find_aligner(generator, index)
            size = sum(pretrained.inside(index, file).stat().st_size for file in files) / 1e6
        except (CaoError, OSError) as error:
            rows.append(Check(name, "missing", str(error), f"restore {index.parent} as it was shipped"))
            continue
        unaligned = [variant.name for variant in shelf.variants if variant.aligner is None]
        note = f"; without an aligner: {', '.join(unaligned)}" if unaligned else ""
        names = ", ".join(variant.name for variant in shelf.variants)
        rows.append(Check(name, "ok", f"{names} ({size:.1f} MB, hashes as recorded){note}"))
    return rows


def check_policies(folder: str | None = None) -> list[Check]:
    """Load every trained policy of a folder of trained parts, the shipped one when None."""
    index = trained.index_of(folder)
    restore = f"restore {index.parent} as it was shipped"
    try:
        listed = trained.read_policies(index).policies
    except CaoError as error:
        return [Check("trained policies", "missing", str(error), restore)]
    if not listed:
        detail = f"{index} names none: the local policy decides without a training"
        return [Check("trained policies", "optional", detail, training_command("smollm2-135m"))]
    rows = []
    for base_sha256, policy in listed.items():
        try:
            trained.find_policy(base_sha256, index)
        except CaoError as error:
            rows.append(Check(f"policy {policy.name}", "missing", str(error), restore))
            continue
        rows.append(Check(f"policy {policy.name}", "ok", f"{policy.path.rpartition('/')[2][:12]} (hash as recorded)"))
    return rows
