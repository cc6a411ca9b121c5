"""Protocols on frozen features: k-NN, few-shot, logistic regression, linear."""
