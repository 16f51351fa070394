"""From a query to ranked answers, with the reason for each.

`query` encodes a photograph or a box in one, `databases` are what is ranked: by the images' own classes, or by the query's
(`online`); `answers` says what made each score, `searcher` puts them together.
"""
