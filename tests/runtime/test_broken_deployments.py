"""Broken deployment files, each with the whole of what is said about it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from runtime.deployment import read_deployment
from runtime.errors import DeploymentError, exit_code

NAMED = "name: blue\nendpoint_name: heart\n"
HEAD = NAMED + "model: azureml:heart:1\n"  # what follows begins on line 4
FULL = HEAD + "type: model\ncompute: azureml:cpu\n"  # what follows begins on line 6
CODE = "code_configuration:\n  code: code\n  scoring_script: score.py\n"

IN_SETTINGS = (
    "(known here: mini_batch_size, max_concurrency_per_instance, instance_count, error_threshold, retry_settings, "
    "logging_level, output_action, output_file_name, environment_variables)"
)
AT_ROOT = (
    "(known here: name, endpoint_name, description, type, tags, properties, model, code_configuration, environment, "
    "compute, resources, settings)"
)
AT_CLASSIC_ROOT = f"{AT_ROOT[:-1]}, {IN_SETTINGS.removeprefix('(known here: ')}"
IN_MODEL = "(known here: name, version, path, type, description, tags, properties, flavors, stage)"
IN_ENVIRONMENT = (
    "(known here: name, version, image, conda_file, build, description, tags, properties, os_type, inference_config, "
    "datastore)"
)
IN_RESOURCES = (
    "(known here: instance_count, instance_type, properties, locations, shm_size, docker_args, max_instance_count)"
)
IN_REST = (
    "(known here: model, codeConfiguration, environmentId, environmentVariables, compute, resources, errorThreshold, "
    "loggingLevel, maxConcurrencyPerInstance, miniBatchSize, outputAction, outputFileName, retrySettings, properties, "
    "description, deploymentConfiguration)"
)
NAME_RULE = "3 to 32 letters, digits and hyphens, the first a letter, the last no hyphen"
ARM = "/subscriptions/s/resourceGroups/r/providers/Microsoft.MachineLearningServices/workspaces/w"
PIPELINE = (
    "pipeline deployments are not run here; write a deployment with type: model for each scoring step and run them "
    "one after the other, or leave the pipeline to Azure ML"
)

# Name of the case, text of the file, all lines of the message without the name of the file.
UNREADABLE = [
    ("empty", "", ": the file is empty; it must be a mapping of keys to values, such as name: blue"),
    ("only a comment", "# later\n", ": the file is empty; it must be a mapping of keys to values, such as name: blue"),
    ("a list", "- name: blue\n", ":1: must be a mapping of keys to values, such as name: blue, not a list"),
    ("a text", "\nblue\n", ":2: must be a mapping of keys to values, such as name: blue, not a text"),
    (
        "two documents",
        HEAD + "---\nname: green\n",
        ":4:1: not YAML: a second document starts here, but a file holds one",
    ),
    (
        "tab",
        HEAD + "settings:\n\tmini_batch_size: 1\n",
        ":5:1: not YAML: a tab where only spaces may stand; indent with spaces",
    ),
    (
        "colon",
        NAMED + "description: a: b\n",
        ":3:15: not YAML: a colon where no key can be; check the indentation, or quote the value",
    ),
    (
        "indented",
        "name: blue\n  endpoint_name: heart\n",
        ":2:16: not YAML: a colon where no key can be; check the indentation, or quote the value",
    ),
    (
        "open bracket",
        HEAD + "tags: {a: 1\n",
        ":5:1: not YAML: expected ',' or '}', but got '<stream end>', while parsing a flow mapping of line 4",
    ),
    (
        "open quote",
        "name: 'blue\nmodel: x\n",
        ":3:1: not YAML: the file ends inside a quoted text, while scanning a quoted scalar of line 1",
    ),
    (
        "no colon",
        HEAD + "compute\n",
        ":5:1: not YAML: a key without a colon before this place, while scanning a simple key of line 4",
    ),
    ("foreign character", NAMED + "model: @heart\n", ":3:8: not YAML: found character '@' that cannot start any token"),
    (
        "unknown alias",
        HEAD + "environment_variables:\n  KEY: *hunter2\n",
        ":5:8: not YAML: an alias (*) without its anchor (&); put the value into quotes if it starts with *",
    ),
    ("control character", "name: blue\nmodel: \x07\n", ":2: not YAML: the control character U+0007"),
    ("null character", "name: \0\n", ": a binary file, so it is no YAML"),
    ("too deep", "a: " + "[" * 20_000, ": lists or mappings inside each other, too deep to read"),
    ("too large", "#" * 2**20 + "\n", ": larger than 1 MiB, so another file must be meant; name a YAML or JSON file"),
]

WRONG = [
    # Keys
    (
        "1.1 unknown key in settings",
        FULL + "settings:\n  mini_batch_sizes: 10\n",
        f":7: settings.mini_batch_sizes: unknown key; did you mean mini_batch_size? {IN_SETTINGS}",
    ),
    ("1.1 unknown key like no other", FULL + "settings:\n  zzz: 10\n", f":7: settings.zzz: unknown key {IN_SETTINGS}"),
    (
        "1.1 unknown key at the root",
        FULL + "enviroment: azureml:env:1\n",
        f":6: enviroment: unknown key; did you mean environment? {AT_ROOT}",
    ),
    (
        "1.1 unknown key at the classic root",
        HEAD + "minibatch_size: 5\n",
        f":4: minibatch_size: unknown key; did you mean mini_batch_size? {AT_CLASSIC_ROOT}",
    ),
    (
        "1.1 unknown key in retry_settings",
        FULL + "settings:\n  retry_settings:\n    max_retry: 1\n",
        (
            ":8: settings.retry_settings.max_retry: unknown key; did you mean max_retries? "
            "(known here: max_retries, timeout)"
        ),
    ),
    (
        "1.1 key of retry_settings in settings",
        FULL + "settings:\n  timeout: 60\n",
        f":7: settings.timeout: unknown key; did you mean settings.retry_settings.timeout? {IN_SETTINGS}",
    ),
    (
        "1.1 key of the root in settings",
        FULL + "settings:\n  model: azureml:a:1\n",
        f":7: settings.model: unknown key; did you mean model? {IN_SETTINGS}",
    ),
    (
        "1.1 key of code_configuration at the root",
        FULL + "scoring_script: score.py\n",
        f":6: scoring_script: unknown key; did you mean code_configuration.scoring_script? {AT_ROOT}",
    ),
    (
        "1.4 key in the spelling of REST",
        HEAD + "miniBatchSize: 5\n",
        f":4: miniBatchSize: unknown key; did you mean mini_batch_size? {AT_CLASSIC_ROOT}",
    ),
    (
        "1.1 key with hyphens",
        HEAD + "mini-batch-size: 5\n",
        f":4: mini-batch-size: unknown key; did you mean mini_batch_size? {AT_CLASSIC_ROOT}",
    ),
    (
        "1.1 merge key",
        HEAD + "tags: &t {a: b}\n<<: *t\n",
        ":5: <<: merge keys are not read here, nor by Azure ML; write the keys out",
    ),
    (
        "1.1 a key that is no text",
        HEAD + "settings:\n  {{ size }}: 3\n",
        ":5: settings: a key must be a text; put into quotes what has braces or brackets",
    ),
    (
        "1.1 key of two lines",
        HEAD + '"a\\nb\\e[2J": 1\n',
        f":4: a\\nb\\x1b[2J: unknown key {AT_CLASSIC_ROOT}",
    ),
    ("1.1 key without end", HEAD + "z" * 99 + ": 1\n", f":4: {'z' * 80}: unknown key {AT_CLASSIC_ROOT}"),
    (
        "duplicate key",
        HEAD + "description: a\ndescription: b\n",
        ":5: description: given twice, first on line 4; keep one",
    ),
    (
        "duplicate key inside",
        FULL + "settings:\n  mini_batch_size: 1\n  error_threshold: 1\n  mini_batch_size: 2\n",
        ":9: settings.mini_batch_size: given twice, first on line 7; keep one",
    ),
    (
        "duplicate variable",
        HEAD + "environment_variables:\n  KEY: hunter2\n  KEY: hunter3\n",
        ":6: environment_variables.KEY: given twice, first on line 5; keep one",
    ),
    (
        "tag",
        HEAD + "description: !secret hunter2\n",
        ":4: description: has a tag (!), which is not read here; remove it, or quote the value",
    ),
    (
        "endless alias",
        HEAD + "properties: &p\n  again: *p\n",
        ":4: properties.again: an alias (*) for what is around it, so it has no end",
    ),
    # Both layouts
    (
        "1.1 both places differ",
        FULL + "mini_batch_size: 5\nsettings:\n  mini_batch_size: 6\n",
        ":8: settings.mini_batch_size: mini_batch_size on line 6 has another value; keep one of them",
    ),
    (
        "1.1 both places differ, root later",
        HEAD + "settings:\n  error_threshold: 6\nerror_threshold: 5\n",
        ":6: error_threshold: settings.error_threshold on line 5 has another value; keep one of them",
    ),
    (
        "1.1 both places have other variables",
        HEAD + "environment_variables: {KEY: hunter2}\nsettings:\n  environment_variables: {KEY: hunter3}\n",
        ":6: settings.environment_variables: environment_variables on line 4 has another value; keep one of them",
    ),
    (
        "1.1 pipeline",
        NAMED + "type: Pipeline\ncomponent: azureml:train:1\nsettings:\n  default_compute: cpu\n",
        f":3: type: {PIPELINE}",
    ),
    (
        "1.1 other type",
        HEAD + "type: modell\n",
        ":4: type: must be model or pipeline, not 'modell'; did you mean model?",
    ),
    # Root
    (
        "1.2 no name",
        "endpoint_name: heart\nmodel: azureml:heart:1\n",
        ":1: name: missing; give the name of the deployment",
    ),
    (
        "1.2 name without value",
        "name:\nendpoint_name: heart\nmodel: azureml:heart:1\n",
        ":1: name: has no value; give a text, or remove the key",
    ),
    (
        "1.2 name is a list",
        "name: [blue]\nendpoint_name: heart\nmodel: azureml:heart:1\n",
        ":1: name: must be a text, not a list",
    ),
    (
        "1.2 no endpoint_name",
        "name: blue\nmodel: azureml:heart:1\n",
        ":1: endpoint_name: missing; give the name of the endpoint; here it is not used, so any will do",
    ),
    (
        "1.2 endpoint_name too short",
        "name: blue\nendpoint_name: ab\nmodel: azureml:heart:1\n",
        f":2: endpoint_name: 'ab' is no name of an endpoint: {NAME_RULE}",
    ),
    (
        "1.2 endpoint_name ends in a hyphen",
        "name: blue\nendpoint_name: heart-\nmodel: azureml:heart:1\n",
        f":2: endpoint_name: 'heart-' is no name of an endpoint: {NAME_RULE}",
    ),
    (
        "1.2 no model",
        NAMED,
        ":1: model: missing; write azureml:<name>:<version>, or a mapping with the path and type of a local model",
    ),
    (
        "1.2 no compute",
        HEAD + "type: model\n",
        ":1: compute: missing; type: model needs it in Azure ML; here it is not used, so any azureml:<name> will do",
    ),
    ("1.2 compute is a mapping", HEAD + "compute: {name: cpu}\n", ":4: compute: must be a text, not a mapping"),
    ("1.2 tags are a list", HEAD + "tags: [a, b]\n", ":4: tags: must be a mapping of names to values, not a list"),
    (
        "1.2 tag is a list",
        HEAD + "tags:\n  a: [b]\n",
        ":5: tags.a: must be a text, a number, true or false, not a list",
    ),
    ("1.2 properties are a text", HEAD + "properties: fast\n", ":4: properties: must be a mapping, not a text"),
    (
        "1.2 environment is a list",
        HEAD + "environment: [a]\n",
        ":4: environment: must be azureml:<name>:<version> or a mapping, not a list",
    ),
    (
        "1.2 environment has an unknown key",
        HEAD + "environment:\n  conda: env.yml\n",
        f":5: environment.conda: unknown key; did you mean conda_file? {IN_ENVIRONMENT}",
    ),
    (
        "1.2 environment is a conda file",
        HEAD + "environment:\n  dependencies: [python]\n",
        ":5: environment.dependencies: belongs into the file that conda_file names, not into the deployment",
    ),
    (
        "1.2 environment builds from an unknown key",
        HEAD + "environment:\n  build:\n    dockerfile: Dockerfile\n",
        (
            ":6: environment.build.dockerfile: unknown key; did you mean dockerfile_path? "
            "(known here: path, dockerfile_path)"
        ),
    ),
    (
        "1.2 resources have an unknown key",
        HEAD + "resources:\n  instance_counts: 2\n",
        f":5: resources.instance_counts: unknown key; did you mean instance_count? {IN_RESOURCES}",
    ),
    (
        "1.2 locations are a mapping",
        HEAD + "resources:\n  locations: {a: b}\n",
        ":5: resources.locations: must be a text or a list of texts",
    ),
    # Code
    (
        "1.2 no such code",
        HEAD + "code_configuration:\n  code: src\n  scoring_script: score.py\n",
        ":5: code_configuration.code: 'src': no such folder; paths are relative to the folder of this file",
    ),
    (
        "1.2 code is a file",
        HEAD + "code_configuration:\n  code: code/score.py\n  scoring_script: score.py\n",
        (
            ":5: code_configuration.code: 'code/score.py': a file; give its folder, and the file as scoring_script; "
            "paths are relative to the folder of this file"
        ),
    ),
    (
        "1.2 code at a public address",
        HEAD + "code_configuration:\n  code: https://example.com/code\n  scoring_script: score.py\n",
        ":5: code_configuration.code: cannot hold the code; give a local folder, or one on Azure storage",
    ),
    (
        "1.2 no scoring_script",
        HEAD + "code_configuration:\n  code: code\n",
        ":4: code_configuration.scoring_script: missing; give the script, relative to the folder of the code",
    ),
    (
        "1.2 no code folder",
        HEAD + "code_configuration:\n  scoring_script: score.py\n",
        ":4: code_configuration.code: missing; give the folder of the scoring script, relative to this file",
    ),
    (
        "1.2 no such script",
        HEAD + "code_configuration:\n  code: code\n  scoring_script: scorer.py\n",
        (
            ":6: code_configuration.scoring_script: 'scorer.py': no such file in the folder of the code; "
            "did you mean score.py?"
        ),
    ),
    (
        "1.2 no such script in a folder",
        HEAD + "code_configuration:\n  code: .\n  scoring_script: code/Score.py\n",
        (
            ":6: code_configuration.scoring_script: 'code/Score.py': no such file in the folder of the code; "
            "did you mean code/score.py?"
        ),
    ),
    (
        "1.2 script outside",
        HEAD + "code_configuration:\n  code: code\n  scoring_script: ../score.py\n",
        ":6: code_configuration.scoring_script: '../score.py' is outside the code; give a path relative to code",
    ),
    (
        "1.2 script is a notebook",
        HEAD + "code_configuration:\n  code: code\n  scoring_script: score.ipynb\n",
        (
            ":6: code_configuration.scoring_script: 'score.ipynb' is no Python file; "
            "give the path of one that ends in .py"
        ),
    ),
    (
        "1.2 script with backslashes",
        HEAD + "code_configuration:\n  code: .\n  scoring_script: code\\score.py\n",
        ":6: code_configuration.scoring_script: 'code\\\\score.py' has backslashes; write folders with /",
    ),
    (
        "1.2 script does not compile",
        HEAD + "code_configuration:\n  code: code\n  scoring_script: broken.py\n",
        ":6: code_configuration.scoring_script: broken.py:3: Python {python} cannot compile it: invalid syntax",
    ),
    (
        "1.2 unknown key in code_configuration",
        HEAD + CODE + "  scoring_scripts: score.py\n",
        (
            ":7: code_configuration.scoring_scripts: unknown key; did you mean scoring_script? "
            "(known here: code, scoring_script)"
        ),
    ),
    (
        "1.2 custom model without a script",
        NAMED + "model:\n  path: model\n  type: custom_model\n",
        (
            ":1: code_configuration: missing; a custom_model needs a scoring script; "
            "for an MLflow model write model.type: mlflow_model"
        ),
    ),
    (
        "1.2 model without type and script",
        NAMED + "model:\n  path: model\n",
        (
            ":1: code_configuration: missing; a model without a type is a custom_model, which needs a scoring script; "
            "for an MLflow model write model.type: mlflow_model"
        ),
    ),
    (
        "4.3 summary_only without a script",
        HEAD + "output_action: summary_only\n",
        ":4: output_action: summary_only needs a scoring script that writes the output; write append_row",
    ),
    # Models
    (
        "7.3 bare name and version",
        NAMED + "model: heart:3\n",
        ":3: model: a registered model is written with its prefix: azureml:heart:3",
    ),
    (
        "7.3 bare name and label",
        NAMED + "model: heart@latest\n",
        ":3: model: a registered model is written with its prefix: azureml:heart@latest",
    ),
    (
        "7.3 bare ARM id",
        NAMED + f"model: {ARM}/models/heart/versions/3\n",
        f":3: model: a bare ARM id; write azureml:{ARM}/models/heart/versions/3",
    ),
    (
        "7.3 ARM id with a label",
        NAMED + f"model: azureml:{ARM}/models/heart/labels/latest\n",
        ":3: model: an ARM id takes no label; write .../versions/<version>, or azureml:<name>@<label>",
    ),
    (
        "7.3 ARM id of data",
        NAMED + "model: azureml:/subscriptions/s/workspaces/w/data/heart/versions/3\n",
        ":3: model: 'azureml:/subscriptions/s/workspaces/w/data/heart/versions/3' names one of the data, not a model",
    ),
    (
        "7.3 ARM id of nothing",
        NAMED + "model: azureml:/subscriptions/s\n",
        (
            ":3: model: 'azureml:/subscriptions/s' is no ARM id of a model; write "
            "azureml:/subscriptions/.../workspaces/<workspace>/models/<name>/versions/<version>"
        ),
    ),
    (
        "7.3 slashes before a name",
        NAMED + "model: azureml://heart:3\n",
        ":3: model: a registered model is written without slashes: azureml:heart:3",
    ),
    (
        "7.3 environment in a registry",
        NAMED + "model: azureml://registries/r/environments/e/versions/3\n",
        (
            ":3: model: 'azureml://registries/r/environments/e/versions/3' names one of the environments, not a model; "
            "write .../models/<name>/..."
        ),
    ),
    (
        "7.3 no version",
        NAMED + "model: 'azureml:heart:'\n",
        ":3: model: 'azureml:heart:' is no reference; write azureml:<name>:<version> or azureml:<name>@latest",
    ),
    (
        "7.3 local path as a text",
        NAMED + "model: ./model\n",
        (
            ":3: model: './model' is neither a reference nor a mapping; a registered model is written "
            "azureml:<name>:<version>, a local one model: {path: ...}"
        ),
    ),
    (
        "7.3 URI as a text",
        NAMED + "model: https://a.blob.core.windows.net/c/m?sig=hunter2\n",
        (
            ":3: model: 'https://a.blob.core.windows.net/c/m?***' is a place, not a registered model; "
            "write it as model.path: model: {path: ...}"
        ),
    ),
    (
        "7.3 inline model is not there",
        NAMED + "model:\n  path: ../modle\n  type: mlflow_model\n",
        ":4: model.path: '../modle': nothing is there; paths are relative to the folder of this file",
    ),
    (
        "7.3 inline model without a path",
        NAMED + "model:\n  name: heart\n  version: 1.10\n  type: mlflow_model\n",
        (
            ":3: model.path: missing; give the model's folder or file, or write model: azureml:heart:1.10 "
            "for a registered one"
        ),
    ),
    (
        "7.3 inline model that is registered",
        NAMED + "model:\n  path: azureml:heart:3\n  type: mlflow_model\n",
        ":4: model.path: a registered model is not inline; write it as model: azureml:heart:3",
    ),
    (
        "7.3 inline model by ARM id",
        NAMED + f"model:\n  path: {ARM}/models/heart/versions/3\n  type: mlflow_model\n",
        f":4: model.path: a registered model is not inline; write it as model: azureml:{ARM}/models/heart/versions/3",
    ),
    (
        "7.1 inline model in a store of old",
        NAMED + "model:\n  path: adl://a.azuredatalakestore.net/m?sig=hunter2\n  type: mlflow_model\n",
        (
            ":4: model.path: adl://a.azuredatalakestore.net/m: Azure Data Lake Gen1 was retired; "
            "move the data to Gen2 and write abfss://…"
        ),
    ),
    (
        "1.2 model type in the spelling of REST",
        NAMED + "model:\n  path: model\n  type: MLFlowModel\n" + CODE,
        (
            ":5: model.type: 'MLFlowModel' is not the spelling in YAML; write mlflow_model "
            "(allowed: custom_model, mlflow_model or triton_model)"
        ),
    ),
    (
        "1.2 unknown key in model",
        NAMED + "model:\n  paths: model\n  path: model\n  type: mlflow_model\n",
        f":4: model.paths: unknown key; did you mean path? {IN_MODEL}",
    ),
    # Settings
    (
        "1.3 mini_batch_size is 0",
        HEAD + "mini_batch_size: 0\n",
        ":4: mini_batch_size: must be a whole number of at least 1, not '0'",
    ),
    (
        "1.3 mini_batch_size is no number",
        HEAD + "mini_batch_size: ten\n",
        ":4: mini_batch_size: must be a whole number of at least 1, not 'ten'",
    ),
    (
        "1.3 mini_batch_size is a fraction",
        HEAD + "mini_batch_size: 2.5\n",
        ":4: mini_batch_size: must be a whole number of at least 1, not '2.5'",
    ),
    (
        "1.3 mini_batch_size has a unit",
        HEAD + "mini_batch_size: 10MB\n",
        ":4: mini_batch_size: must be a whole number of at least 1, not '10MB'",
    ),
    (
        "1.3 mini_batch_size without value",
        HEAD + "mini_batch_size:\n",
        ":4: mini_batch_size: has no value; give a whole number of at least 1, or remove the key",
    ),
    (
        "1.3 max_concurrency_per_instance is true",
        FULL + "settings:\n  max_concurrency_per_instance: true\n",
        ":7: settings.max_concurrency_per_instance: must be a whole number of at least 1, not 'true'",
    ),
    (
        "1.3 instance_count is 0",
        HEAD + "resources:\n  instance_count: 0\n",
        ":5: resources.instance_count: must be a whole number of at least 1, not '0'",
    ),
    (
        "1.3 instance_count in two places",
        FULL + "resources:\n  instance_count: 2\nsettings:\n  instance_count: 2\n",
        ":9: settings.instance_count: given as resources.instance_count on line 7 too; keep one of them",
    ),
    (
        "1.3 error_threshold is -2",
        FULL + "settings:\n  error_threshold: -2\n",
        ":7: settings.error_threshold: must be a whole number of at least -1, not '-2'",
    ),
    (
        "1.3 error_threshold above int.max",
        FULL + "settings:\n  error_threshold: 2147483648\n",
        ":7: settings.error_threshold: must be a whole number from -1 to 2147483647, not '2147483648'",
    ),
    (
        "1.3 retry_settings is a number",
        HEAD + "retry_settings: 3\n",
        ":4: retry_settings: must be a mapping, not a text",
    ),
    (
        "1.3 max_retries is -1",
        HEAD + "retry_settings:\n  max_retries: -1\n",
        ":5: retry_settings.max_retries: must be a whole number of at least 0, not '-1'",
    ),
    (
        "1.3 timeout is 0",
        HEAD + "retry_settings:\n  timeout: 0\n",
        (
            ":5: retry_settings.timeout: must be a whole number from 1 to 259200, not '0'; Azure ML drops a 0: "
            "leave the key out for 30 seconds"
        ),
    ),
    (
        "1.3 timeout is too long",
        HEAD + "retry_settings:\n  timeout: 259201\n",
        ":5: retry_settings.timeout: must be a whole number from 1 to 259200, not '259201'",
    ),
    (
        "1.4 timeout in the spelling of REST",
        HEAD + "retry_settings:\n  timeout: PT5M\n",
        ":5: retry_settings.timeout: 'PT5M' is not the spelling in YAML; write the seconds: 300",
    ),
    (
        "1.3 logging_level is error",
        HEAD + "logging_level: error\n",
        ":4: logging_level: must be warning, info or debug, not 'error'",
    ),
    (
        "1.3 logging_level is warn",
        HEAD + "logging_level: warn\n",
        ":4: logging_level: must be warning, info or debug, not 'warn'; did you mean warning?",
    ),
    (
        "1.3 output_action in the spelling of REST",
        HEAD + "output_action: AppendRow\n",
        (
            ":4: output_action: 'AppendRow' is not the spelling in YAML; write append_row "
            "(allowed: append_row or summary_only)"
        ),
    ),
    (
        "1.3 output_action is unknown",
        HEAD + "output_action: append_rows\n",
        ":4: output_action: must be append_row or summary_only, not 'append_rows'; did you mean append_row?",
    ),
    (
        "1.3 output_file_name with summary_only",
        HEAD + CODE + "output_file_name: a.csv\noutput_action: summary_only\n",
        ":7: output_file_name: must be absent with output_action: summary_only, which writes none",
    ),
    (
        "1.3 output_file_name is a path",
        HEAD + "output_file_name: out/a*.csv\n",
        ":4: output_file_name: 'out/a*.csv' holds * /; not allowed: ~ \" # % & * : < > ? / \\ { | }",
    ),
    (
        "1.3 output_file_name is a folder",
        HEAD + "output_file_name: ..\n",
        ":4: output_file_name: '..' is no file name of up to 260 characters",
    ),
    (
        "1.3 output_file_name is too long",
        HEAD + f"output_file_name: {'a' * 261}\n",
        f":4: output_file_name: '{'a' * 77}...' is no file name of up to 260 characters",
    ),
    (
        "1.3 variables are a list",
        HEAD + "environment_variables:\n  - name: KEY\n    value: hunter2\n",
        ":4: environment_variables: must be a mapping of names to values, not a list",
    ),
    (
        "1.3 variables are a text",
        HEAD + "environment_variables: KEY=hunter2\n",
        ":4: environment_variables: must be a mapping of names to values, not a text",
    ),
    (
        "1.3 variable is a mapping",
        HEAD + "environment_variables:\n  KEY: {secret: hunter2}\n",
        ":5: environment_variables.KEY: must be a text, a number, true or false, not a mapping",
    ),
    (
        "1.3 variable has an equals sign",
        HEAD + "environment_variables:\n  KEY=hunter2: x\n",
        ":5: environment_variables.KEY: the name of a variable must not be empty, nor hold a = or a null character",
    ),
    (
        "1.3 variable has no name",
        HEAD + "environment_variables:\n  '': hunter2\n",
        ":5: environment_variables.: the name of a variable must not be empty, nor hold a = or a null character",
    ),
    (
        "1.1 key holds what was meant as its value",
        HEAD + "KEY=hunter2:\n",
        f":4: KEY: unknown key {AT_CLASSIC_ROOT}",
    ),
    (
        "1.3 variable has a null",
        HEAD + 'environment_variables:\n  KEY: "hunter2\\0"\n',
        ":5: environment_variables.KEY: holds a null character, which no variable can",
    ),
    # Our own tags
    (
        "chunk_rows is negative",
        HEAD + "tags:\n  scoreline.chunk_rows: -1\n",
        ":5: tags.scoreline.chunk_rows: must be a whole number of at least 0, not '-1'",
    ),
    (
        "strict is a number",
        HEAD + "tags:\n  scoreline.strict: 1\n",
        ":5: tags.scoreline.strict: must be true or false, not '1'",
    ),
    (
        "unknown tag of ours",
        HEAD + "tags:\n  scoreline.chunkrows: 1\n",
        (
            ":5: tags.scoreline.chunkrows: unknown key; did you mean scoreline.chunk_rows? "
            "(known here: scoreline.chunk_rows, scoreline.strict)"
        ),
    ),
    # The REST form
    (
        "1.4 unknown key",
        '{"properties": {\n"model": {"assetId": "azureml:a:1"},\n"miniBatch": 1}}',
        f":3: properties.miniBatch: unknown key; did you mean miniBatchSize? {IN_REST}",
    ),
    (
        "1.4 timeout in seconds",
        ('{"properties": {"model": {"assetId": "azureml:a:1"},\n"retrySettings": {"timeout": 30}}}'),
        ":2: properties.retrySettings.timeout: must be a duration from PT1S to PT72H, not '30'",
    ),
    (
        "1.4 pipeline",
        ('{"properties": {"deploymentConfiguration":\n{"deploymentConfigurationType": "PipelineComponent"}}}'),
        f":2: properties.deploymentConfiguration.deploymentConfigurationType: {PIPELINE}",
    ),
    (
        "1.4 model by path",
        '{"properties": {"model": {"referenceType": "DataPath", "assetId": "x"}}}',
        ":1: properties.model.referenceType: must be Id, not 'DataPath'; register the model, or write the YAML form",
    ),
]

SIX = """\
name: blue
name: green
endpoint_name: heart
type: model
compute: azureml:cpu
settings:
  output_action: SummaryOnly
  retry_settings:
    timeout: 30s
  mini_batch_sizes: 5
model: heart:1
code_configuration:
  code: code
  scoring_script: scor.py
environment_variables: [hunter2]
"""
"""Six mistakes, in an order in which no part of the code looks for them."""


@pytest.fixture(autouse=True)
def beside_a_model_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every test in a folder with a model, a script that compiles and one that does not."""
    (tmp_path / "model").mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    (tmp_path / "code" / "broken.py").write_text("import os\n\ndef run(:\n    return []\n")
    monkeypatch.chdir(tmp_path)


def complaint(file: str = "deployment.yml") -> DeploymentError:
    """Return what is said about a file that cannot be used."""
    with pytest.raises(DeploymentError) as caught:
        read_deployment(file)
    return caught.value


@pytest.mark.parametrize(
    ("text", "message"), [pytest.param(text, message, id=name) for name, text, message in UNREADABLE + WRONG]
)
def test_mistake_has_exactly_this_message(text: str, message: str) -> None:
    """Each mistake is named with its file, line, key and what to do, and nothing else is."""
    Path("deployment.yml").write_text(text, encoding="utf-8")
    error = complaint()
    expected = "deployment.yml" + message.replace("{python}", f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert (expected,) == error.problems
    assert expected == str(error)
    assert "hunter" not in expected.lower()
    assert exit_code(error) == 2


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    """Six mistakes are six lines, from the top of the file to its end."""
    Path("deployment.yml").write_text(SIX)
    assert str(complaint()).splitlines() == [
        "deployment.yml:2: name: given twice, first on line 1; keep one",
        (
            "deployment.yml:7: settings.output_action: 'SummaryOnly' is not the spelling in YAML; write summary_only "
            "(allowed: append_row or summary_only)"
        ),
        "deployment.yml:9: settings.retry_settings.timeout: must be a whole number from 1 to 259200, not '30s'",
        f"deployment.yml:10: settings.mini_batch_sizes: unknown key; did you mean mini_batch_size? {IN_SETTINGS}",
        "deployment.yml:11: model: a registered model is written with its prefix: azureml:heart:1",
        (
            "deployment.yml:14: code_configuration.scoring_script: 'scor.py': no such file in the folder of the code; "
            "did you mean score.py?"
        ),
        "deployment.yml:15: environment_variables: must be a mapping of names to values, not a list",
    ]


def test_file_that_is_no_file_is_named() -> None:
    """A folder and a file that is not there are told apart."""
    assert str(complaint("code")) == "code: a folder; name the YAML file inside it"
    assert str(complaint("deploymnt.yml")) == "deploymnt.yml: no such file"


def test_file_of_bytes_is_no_yaml() -> None:
    """A file in another encoding is told by the line of its first strange byte."""
    Path("deployment.yml").write_bytes(b"name: blue\ndescription: caf\xe9\n")
    assert str(complaint()) == "deployment.yml:2: not a text file in UTF-8, so it is no YAML"


def test_code_that_cannot_be_read_is_told() -> None:
    """A folder that was given to another user is no fault of Scoreline's."""
    Path("deployment.yml").write_text(HEAD + CODE)
    Path("code").chmod(0)
    try:
        if os.access("code", os.R_OK):
            pytest.skip("root may read every folder")
        assert str(complaint()) == (
            "deployment.yml:6: code_configuration.scoring_script: 'score.py': its folder cannot be read: "
            "Permission denied"
        )
    finally:
        Path("code").chmod(0o755)


def test_script_with_a_null_byte_is_refused() -> None:
    """A binary file in the place of the script is told as one that does not compile."""
    Path("code/score.py").write_bytes(b"x = 1\0\n")
    Path("deployment.yml").write_text(HEAD + CODE)
    assert "cannot compile it" in str(complaint())


def test_script_that_nests_too_deep_is_refused() -> None:
    """What makes Python's own compiler give up is a message too."""
    Path("code/score.py").write_text("x = " + "(" * 5000 + ")" * 5000)
    Path("deployment.yml").write_text(HEAD + CODE)
    assert "cannot compile it" in str(complaint())
