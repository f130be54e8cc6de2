"""Synthetic garments: a design, photographs of it, and the positions of its 24 FashionAI landmarks.

`render.render` is the entry point. A `design.Design` defines a garment and is the same in all its photographs; camera,
wearer and background are sampled for each image. All geometry is in centimeters of the wearer (x to the viewer's right,
y down, origin at the pit of the neck) until the camera maps it to pixels.
"""
