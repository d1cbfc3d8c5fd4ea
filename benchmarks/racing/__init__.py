"""What the comparisons with other libraries are made of: fields, floors, the libraries, the workloads, the table."""
