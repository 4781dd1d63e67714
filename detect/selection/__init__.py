"""Which unlabelled images to label next: criteria, one file each, and the greedy choice by their weighted sum."""
