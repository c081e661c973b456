"""The words after `--do`: one table, one small file each."""
