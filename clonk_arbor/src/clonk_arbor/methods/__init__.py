"""The methods that arbor offers, by what they are about. Thin: the domain has the rules, `store` the SQL."""
