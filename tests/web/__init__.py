"""Tests of mesoskit.web, and what endpoints are asked with."""
