"""The BERT sequence model: exported by Spark, read by Petastorm, trained by torch, asked on the executors."""
