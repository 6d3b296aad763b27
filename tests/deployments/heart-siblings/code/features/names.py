NAMES = ["age", "chol", "thalach", "oldpeak"]
