"""Everything mode: an image to the masks of all its objects, by SAM's automatic mask generator."""
