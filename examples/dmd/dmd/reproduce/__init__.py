"""The paper's tables and figures: which runs they need, how these are made, and what is written of them."""
