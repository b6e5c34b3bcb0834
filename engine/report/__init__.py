"""The report of one run or several: a page that opens from the disk, made of their directories alone."""
