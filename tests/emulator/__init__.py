"""An Ascend machine made of Python: `atc` and `acl` that refuse what the real ones refuse."""
