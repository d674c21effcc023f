"""What workers that ask a network begin with: the daemon of a local session imports this, and they are its forks.

Nothing here may start a thread or touch a GPU: neither survives a fork.
"""

from lt_spark.engines.loaded import prepare_process

prepare_process()

from transformers import AutoModel, AutoTokenizer, BertModel  # noqa: E402, F401 - offline, as it was made ready
