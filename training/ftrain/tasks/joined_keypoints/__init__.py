"""Several keypoints runs joined into one; the folder of the keypoints task has its metrics, report and predictions."""
