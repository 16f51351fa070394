"""From a query to ranked answers, with the reason for each.

`query` encodes a photograph or a box in one, `online` scores every image by the query's classes, `answers` says what made
each score, `searcher` puts them together.
"""
