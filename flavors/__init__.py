"""What answers a call: flavor files (YAML) and the engines behind them."""
