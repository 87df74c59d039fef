"""A page in the browser: watch trainings, and play with what they made. Each tab is one file; Gradio draws them."""
