"""What tasks are about, so that a reader sees which claims are out of domain and which are near to a source.

A task may have several subjects: where one might help with another, they share one.
"""

from collections.abc import Iterable

SUBJECTS: dict[str, tuple[str, ...]] = {
    "school science": (
        *("arc_challenge", "arc_easy", "openbookqa", "sciq", "mmlu_physics", "mmlu_chemistry", "mmlu_biology"),
        *("mmlu_astronomy", "mmlu_college_physics", "mmlu_conceptual_physics", "mmlu_electrical_engineering"),
        *("mmlu_high_school_physics", "mmlu_college_chemistry", "mmlu_high_school_chemistry", "mmlu_college_biology"),
        *("mmlu_high_school_biology",),
    ),
    "medicine": (
        *("medqa", "jama", "mmlu_medicine", "mmlu_biology", "mmlu_medical_genetics", "mmlu_nutrition", "mmlu_anatomy"),
        *("mmlu_virology", "mmlu_clinical_knowledge", "mmlu_college_medicine", "mmlu_human_aging"),
        *("mmlu_professional_medicine",),
    ),
    "mathematics": (
        *("gsm8k", "math", "mmlu_math", "mmlu_abstract_algebra", "mmlu_college_mathematics"),
        *("mmlu_elementary_mathematics", "mmlu_high_school_mathematics", "mmlu_high_school_statistics"),
        *("mmlu_econometrics", "basic_skills_arithmetic", "basic_skills_pattern", "reasoning_gym_base_conversion"),
        *("reasoning_gym_basic_arithmetic", "reasoning_gym_bitwise_arithmetic", "reasoning_gym_calendar_arithmetic"),
        *("reasoning_gym_chain_sum", "reasoning_gym_complex_arithmetic", "reasoning_gym_count_bits"),
        *("reasoning_gym_count_primes", "reasoning_gym_decimal_arithmetic", "reasoning_gym_decimal_chain_sum"),
        *("reasoning_gym_dice", "reasoning_gym_fraction_simplification", "reasoning_gym_gcd"),
        *("reasoning_gym_gsm_symbolic", "reasoning_gym_lcm", "reasoning_gym_leg_counting"),
        *("reasoning_gym_number_filtering", "reasoning_gym_number_format", "reasoning_gym_power_function"),
        *("reasoning_gym_prime_factorization", "reasoning_gym_products", "reasoning_gym_simple_equations"),
        *("reasoning_gym_simple_geometry", "mmlu_professional_accounting"),
    ),
    "social common sense": ("social_iqa", "commonsense_qa", "copa"),
    "everyday common sense": ("piqa", "commonsense_qa", "copa", "basic_skills_common_knowledge"),
    "scenes that go on": ("hellaswag",),
    "pronouns": ("winogrande",),
    "reading": ("boolq", "qasper_yesno", "sciriff_yesno"),
    "logic": (
        *("mmlu_logic", "divlogiceval", "basic_skills_logical_reasoning", "reasoning_gym_aiw"),
        *("reasoning_gym_family_relationships", "reasoning_gym_syllogism"),
    ),
    "computer science": (
        *("mmlu_cs", "codemmlu", "basic_skills_coding", "reasoning_gym_base_conversion"),
        *("reasoning_gym_bitwise_arithmetic", "reasoning_gym_count_bits", "reasoning_gym_course_schedule"),
    ),
    "puzzles": (
        *("basic_skills_pattern", "basic_skills_string_operations", "copycolors", "reasoning_gym_ab"),
        *("reasoning_gym_binary_alternation", "reasoning_gym_caesar_cipher", "reasoning_gym_color_cube_rotation"),
        *("reasoning_gym_largest_island", "reasoning_gym_letter_counting", "reasoning_gym_maze"),
        *("reasoning_gym_spell_backward",),
    ),
    "history and law": (
        *("mmlu_history", "mmlu_law", "mmlu_high_school_european_history", "mmlu_high_school_us_history"),
        *("mmlu_high_school_world_history", "mmlu_prehistory", "mmlu_international_law", "mmlu_jurisprudence"),
        *("mmlu_professional_law",),
    ),
    "society": (
        *("mmlu_economics", "mmlu_politics", "mmlu_business", "mmlu_econometrics", "mmlu_high_school_macroeconomics"),
        *("mmlu_high_school_microeconomics", "mmlu_high_school_geography"),
        *("mmlu_high_school_government_and_politics", "mmlu_security_studies", "mmlu_sociology"),
        *("mmlu_us_foreign_policy", "mmlu_business_ethics", "mmlu_management", "mmlu_marketing"),
        *("mmlu_professional_accounting", "mmlu_public_relations"),
    ),
    "psychology and philosophy": (
        *("mmlu_psychology", "mmlu_philosophy", "mmlu_high_school_psychology", "mmlu_human_sexuality"),
        *("mmlu_professional_psychology", "mmlu_moral_disputes", "mmlu_philosophy_subject", "mmlu_world_religions"),
    ),
    "general knowledge": ("mmlu_general", "mmlu_global_facts", "mmlu_miscellaneous"),
}
"""Subject → tasks."""


def subjects_of(task: str) -> frozenset[str]:
    """Return a task's subjects; none where the table does not know it."""
    return frozenset(subject for subject, tasks in SUBJECTS.items() if task in tasks)


def sharing(task: str, sources: Iterable[str]) -> tuple[str, ...]:
    """Return the sources that share a subject with a task, in their order."""
    own = subjects_of(task)
    return tuple(source for source in sources if own & subjects_of(source))
