"""``agent.train_policy`` at the tiny model's size, as a process: ``python -m tests.agent.train.policy.tiny_command …``.

As the command does, it quietens the libraries before anything imports them.
"""

import sys

from cao.command_line import quiet_libraries

if __name__ == "__main__":
    quiet_libraries(offline="--offline" in sys.argv)

    from tests.agent.train.policy.tiny_policy_training import train

    sys.exit(train(sys.argv[1:]))
