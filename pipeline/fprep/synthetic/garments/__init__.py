"""Synthetic garments: a design, a photograph of it, and where its 24 FashionAI points lie.

`render.render` is the entry. A `design.Design` says what the garment is and stays the same over photographs of it; everything
that depends on the photographer, the wearer and the room is drawn anew for each image. All geometry is in centimeters of the wearer
(x to the viewer's right, y down, origin at the pit of the neck) until the camera maps it to pixels.
"""
