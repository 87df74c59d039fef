"""Ways from one number to another while a run goes on."""
