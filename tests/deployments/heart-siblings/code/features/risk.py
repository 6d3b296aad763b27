def age_group(age):
    return "60 and over" if age >= 60 else "under 60"
