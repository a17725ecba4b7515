"""What any server of a model shares: the schema of requests and answers, the model behind it, the point under load."""
