"""Score CSV files with Spark and the user-defined function that MLflow makes of a model.

Usage: python spark_udf.py MODEL INPUT_DIR_OR_FILE OUT_FOLDER WORKERS
"""

import os
import sys

import mlflow.pyfunc
from pyspark.sql import SparkSession
from pyspark.sql import functions as f


def main() -> None:
    """Read, score and write; the order of the ids is that of the rows of each file."""
    url, source, out, workers = sys.argv[1:]
    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = (
        SparkSession.builder.master(f"local[{workers}]")
        .config("spark.driver.memory", "4g")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    inputs = mlflow.pyfunc.load_model(url).metadata.signature.inputs
    predict = mlflow.pyfunc.spark_udf(spark, url, result_type="long", env_manager="local")
    rows = spark.read.csv(source, header=True, schema=inputs.as_spark_schema())
    scored = rows.select(
        f.monotonically_increasing_id().alias("id"),
        predict(f.struct(*inputs.input_names())).alias("prediction"),
        f.col("_metadata.file_name").alias("file"),
    )
    scored.write.csv(out, header=True)
    spark.stop()


if __name__ == "__main__":
    main()
