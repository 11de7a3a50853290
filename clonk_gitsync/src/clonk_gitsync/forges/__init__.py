"""Forges: GitHub, GitLab, Gitea and what other packages add, behind one interface."""
