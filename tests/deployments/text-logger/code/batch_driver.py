import argparse
import os

from azureml_user.parallel_run import EntryScript

parser = argparse.ArgumentParser()
parser.add_argument("--logging_level", default="info")
arguments, _ = parser.parse_known_args()
entry_script = EntryScript()


def init():
    entry_script.logger.info("this is not a warning")
    entry_script.logger.warning("level %s, agent %s", arguments.logging_level, entry_script.agent_name)


def run(mini_batch):
    with open(os.path.join(entry_script.working_dir, "scratch"), "a", encoding="utf-8") as scratch:
        scratch.write("\n".join(mini_batch))
    for path in mini_batch:
        entry_script.logger.warning("scored %s", os.path.basename(path))
    return tuple(os.path.basename(path).upper() for path in mini_batch)


def shutdown():
    entry_script.logger.warning("goodbye from %s", entry_script.agent_name)
