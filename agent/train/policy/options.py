"""What the command ``agent.train_policy`` takes besides a run's configuration."""

from typing import Annotated

from pydantic import Field

from cao.configuration import Workers
from cao.options import Option
from cao.types import Record

GYM = (
    *("ab", "aiw", "base_conversion", "basic_arithmetic", "binary_alternation", "bitwise_arithmetic", "caesar_cipher"),
    *("calendar_arithmetic", "chain_sum", "color_cube_rotation", "complex_arithmetic", "count_bits", "count_primes"),
    *("course_schedule", "decimal_arithmetic", "decimal_chain_sum", "dice", "family_relationships"),
    *("fraction_simplification", "gcd", "largest_island", "lcm", "leg_counting", "letter_counting", "maze"),
    *("number_filtering", "number_format", "power_function", "products", "simple_equations", "simple_geometry"),
    *("spell_backward", "syllogism"),
)
"""Procedural sources (extra ``practice``) with questions enough, and none that is another task's in other words."""

DEFAULT_TASKS = (
    *("arc_challenge", "hellaswag", "winogrande", "openbookqa", "commonsense_qa", "sciq"),
    *("basic_skills_arithmetic", "basic_skills_coding", "basic_skills_common_knowledge"),
    *("basic_skills_string_operations", "sciriff_yesno", "mmlu_miscellaneous", "mmlu_professional_law"),
    *(f"reasoning_gym_{name}" for name in GYM),
)
"""Each is served by a generator that saw none of its questions, on the embedded model."""

DEFAULT_HELD_OUT = (
    *("arc_easy", "boolq", "piqa", "social_iqa", "gsm8k", "math", "medqa", "basic_skills_logical_reasoning"),
)
"""None of these tasks' questions trained the generator that serves it."""

RUN_OPTIONS = (
    *("model", "model_path", "support", "reward", "accept", "seed", "out", "device", "dtype", "offline", "pretrained"),
)
"""Keys of a run's configuration that are options of the command too."""


class TrainPolicyOptions(Record):
    """What the command takes."""

    tasks: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="learn on these tasks' train parts, or on all of your own file"),
        Option("NAME|FILE,...", commas=True, default="46 of them"),
    ] = DEFAULT_TASKS
    held_out: Annotated[
        tuple[str, ...] | None,
        Field(description="only measure on these"),
        Option("NAME|FILE,...", commas=True, default="eight others"),
    ] = None
    seeds: Annotated[int, Field(ge=1, description="draws of questions for each task"), Option("N")] = 2
    iterations: Annotated[
        int,
        Field(
            ge=0,
            description="of sampling and fine-tuning; 0 without --warm-start trains no language model, and with"
            " --landscape a portfolio and a surrogate all the same",
        ),
        Option("N"),
    ] = 2
    samples: Annotated[int, Field(ge=1, description="samples of each situation"), Option("N")] = 20
    sequential: Annotated[
        bool,
        Field(
            description="stop sampling a situation once it is clear whether it has winning strategies; --samples at"
            " most"
        ),
    ] = False
    bare: Annotated[bool, Field(description="practise on each task without an adapter, too")] = False
    budget: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="TTL that trains on more than N prompts earns nothing"),
        Option("N", default="any may"),
    ] = None
    landscape: Annotated[bool, Field(description="measure the whole grid of strategies in every situation first")] = (
        False
    )
    warm_start: Annotated[
        bool,
        Field(
            description="first fine-tune on what improves the model of the grid's points, as far as measured;"
            " off-policy"
        ),
    ] = False
    epochs: Annotated[
        int, Field(ge=1, description="of each fine-tuning; more where that is fewer than 50 steps"), Option("N")
    ] = 4
    workers: Workers = 1
    install: Annotated[bool, Field(description="put the trained policy where agent.run finds it")] = False
