"""The pretrained text encoder with adapters: pairs made by Spark, trained by torch, asked on the executors."""
