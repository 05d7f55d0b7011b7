"""`sgdsim explore`: a local page with sliders over the exact theory and a live simulation beside it.

`inputs` says what may be asked, `model` turns it into plain arrays without any page, `figures`, `table` and `page` draw
them with bokeh, `lane` keeps the page responsive and `server` serves it on this machine only.
"""
