"""`python -m mebert demo`: a page on which a model answers texts, its exits lighting up one by one."""
