"""Images from images: repair, enlarge, denoise, fill outlines in, and translate between kinds."""
