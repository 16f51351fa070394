"""From a query to ranked answers, with the reason for each.

`databases` are what is ranked: by the images' own classes, or by the query's (`online`); `answers` holds the results and what
made each score; `searcher` puts them together.
"""
