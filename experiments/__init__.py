"""The paper's experiments, built on the public names of the plugin."""
