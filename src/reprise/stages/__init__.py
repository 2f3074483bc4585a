"""The stages of the pipeline: one file, one entry in dvc.yaml, one subcommand each."""
