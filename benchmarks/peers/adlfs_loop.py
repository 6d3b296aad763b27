"""Score CSV files on Azure storage the way people do today: a loop over what adlfs opens.

Usage: AZURE_STORAGE_CONNECTION_STRING=... python adlfs_loop.py MODEL CONTAINER/FOLDER_OR_FILE CONTAINER/OUT.csv
"""

import os
import sys
from pathlib import PurePosixPath

import mlflow.pyfunc
import pandas as pd
from adlfs import AzureBlobFileSystem

url, source, out = sys.argv[1:]
model = mlflow.pyfunc.load_model(url)
storage = AzureBlobFileSystem(connection_string=os.environ["AZURE_STORAGE_CONNECTION_STRING"])
with storage.open(out, "w") as file:
    file.write("row,prediction,file\n")
    for path in sorted(storage.find(source)):
        with storage.open(path) as opened:
            frame = pd.read_csv(opened)
        name = PurePosixPath(path).name
        scored = pd.DataFrame({"row": range(len(frame)), "prediction": model.predict(frame), "file": name})
        scored.to_csv(file, index=False, header=False)
