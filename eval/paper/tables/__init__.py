"""The tables of the paper whose cells are accuracies: which rows each has, and which are held against each other."""

from eval.paper.tables import table2, table5, table6
from eval.paper.tables.table import Table

TABLES: dict[str, Table] = {one.number: one for one in (table2.TABLE, table5.TABLE, table6.TABLE)}
