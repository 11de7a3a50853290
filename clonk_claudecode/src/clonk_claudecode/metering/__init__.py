"""What sessions spend: kept for each turn, added up by whom, when and with which model, and limited by budgets."""
