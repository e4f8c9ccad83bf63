"""Compares WebSocket tunnelling proxies side by side, in one run.

workloads   what is done
subjects    by whom: how each proxy is configured
processes   starting, stopping and looking at process trees
measuring   one subject under one workload: a cell
figures     medians, ratios and spreads out of cells
report      the tables
bars        what the product is held to
"""
