"""One module per standard, the section cited at the line that obeys it. Pure: time and fresh ids are passed in."""
