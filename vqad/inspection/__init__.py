"""One night's inspection without Ray: survey, plan, ledger, stages, tables, summary, history."""
