"""Compares proxies side by side, in one run.

workloads   what is done
subjects    by whom: how each proxy is configured
building    what takes part
processes   starting, stopping and looking at process trees
measuring   one subject under one workload: a cell
figures     medians, ratios and spreads out of cells
pages       ordinary pages instead of tunnels
report      the tables
bars        what the product is held to
"""
