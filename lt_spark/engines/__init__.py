"""Back ends of the language model and of text encoders: prompts in, texts and token counts out; no Spark."""
