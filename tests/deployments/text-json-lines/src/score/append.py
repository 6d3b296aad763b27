import fcntl
import json
import logging
import os
from pathlib import Path

logger = logging.getLogger("append")
LONG = int(os.environ["LONG_TEXT"])
OUTPUT = os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], os.environ["LINES_FILE"])


def run(mini_batch):
    done = []
    for path in mini_batch:
        text = Path(path).read_text(encoding="utf-8")
        line = {"file": Path(path).name, "words": text.split(), "long": len(text) > LONG}
        with open(OUTPUT, "a", encoding="utf-8") as output:
            fcntl.flock(output, fcntl.LOCK_EX)
            output.write(json.dumps(line, ensure_ascii=False) + "\n")
        logger.debug("appended %s", Path(path).name)
        done.append(path)
    return done
