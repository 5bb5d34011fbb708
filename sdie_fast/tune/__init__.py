"""The page on which a recipe is tuned by eye: `sdie-fast tune FOLDER`.

A server of the standard library answers a page of plain JavaScript, both in this package: no framework of pages
stands between. Gradio and NiceGUI were considered. Either is dozens of packages, keeps its widgets' state on
the server and sends a picture as an encoded file through a queue or a web socket; what matters here, a canvas
that is dragged, zoomed and panned, would have been JavaScript in both. Raw pixels over a kept connection are on
the screen within a frame or two of being computed, window and level never leave the browser, and nothing is
fetched from elsewhere, since there is nothing to fetch.

Modules: `pictures` reads the folder, `work` enhances, measures and segments, `search` runs CMA-ES beside,
`server` is the only one that knows HTTP. The recipe being tuned lives in the page: two pages do not disturb
each other, and the server forgets nothing when one is closed.
"""
