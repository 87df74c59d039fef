"""Generators and discriminators, one family per file. Each is a component whose `build` makes an `nn.Module`."""
